# What a RUN leaves running, in memory, or in its shell does not reach the next
FROM base
RUN sleep 300 & echo started > /started
RUN echo x > /dev/shm/x; export Y=y; cd /data; umask 077; touch /made-privately
RUN ls /dev/shm > /shm; echo "[$Y] $(pwd) $(umask)" > /shell; cat > /input
RUN touch /after

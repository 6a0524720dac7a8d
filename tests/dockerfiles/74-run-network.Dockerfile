# RUN --network=none
# compile refuses: --network of one RUN is not supported
FROM base
RUN --network=none echo x > /x
RUN --network=default echo y > /y

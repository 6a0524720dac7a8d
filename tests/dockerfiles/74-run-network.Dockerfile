# RUN --network=none
FROM base
RUN --network=none echo x > /x
RUN --network=default echo y > /y

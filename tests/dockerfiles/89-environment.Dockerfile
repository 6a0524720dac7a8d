# What a RUN sees that no instruction says
FROM base
RUN env > /env; ls -a /etc > /list
USER 4321
RUN env > /tmp/env; ls /proc/self > /dev/null && id > /tmp/id

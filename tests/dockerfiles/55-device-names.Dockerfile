# What a RUN sees, and what of it stays: /dev, /etc/hosts and the others are not in the image
FROM base
RUN ls -a / > /tmp/list; test -c /dev/null && hostname > /tmp/hostname; echo $PATH $HOME > /tmp/env
RUN touch /dev/x /proc/none /sys/none 2> /dev/null; true

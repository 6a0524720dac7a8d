# What a RUN makes in /run, /var/run, /dev and beside what engines mount over
FROM base
RUN mkdir -p /run/lock /var/run && touch /run/pid /run/lock/x /var/run/y /etc/resolv.conf.bak /etc/hosts.new
RUN mkdir /mnt && touch /mnt/x && mkdir -m 755 /home && chown app:web /home
RUN rm -r /run/lock && mv /etc/hosts.new /etc/hosts2

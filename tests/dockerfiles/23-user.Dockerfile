# USER: by name and number, with groups, HOME and umask
FROM base
RUN chmod 777 /data
USER app
RUN id > /data/id && echo $HOME > /data/home && touch /data/mine && umask > /data/umask
USER 77:88
RUN id > /data/id2; echo "$HOME" > /data/home2
USER app:extra
RUN id > /data/id3 && mkdir /data/grouped
USER 1000
RUN id > /data/id4; echo "$HOME" > /data/home4
USER 9
RUN id > /data/id5
USER :web
RUN id > /data/id6
USER root:web
RUN umask 027 && mkdir /private && touch /private/x
ARG WHO=app
USER ${WHO}

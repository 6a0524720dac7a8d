# --chown: names of files that the build itself wrote
FROM base
RUN echo 'svc:x:500:501::/:/bin/sh' >> /etc/passwd; echo 'grp:x:777:' >> /etc/group
COPY --chown=svc one.txt /a
COPY --chown=svc:grp one.txt /b
COPY --chown=svc:0 one.txt /c
COPY --chown=12:grp one.txt /d
COPY --chown=:grp one.txt /e
COPY --chown=svc: one.txt /e2
COPY --chown=12: one.txt /e3
ADD --chown=: one.txt /e4
ADD --chown=root:web dir /f/
USER svc
COPY one.txt /g
WORKDIR /h/i

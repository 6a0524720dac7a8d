# COPY --chown: names, numbers, one without the other, and whose the folders above are
FROM base
COPY --chown=app:web one.txt /new/owned
COPY --chown=app one.txt /user-only
COPY --chown=5 dir /five/
COPY --chown=5:6 one.txt /numbers
COPY --chown=5:web one.txt /mixed
COPY --chown=:web one.txt /group-only
COPY --chown=app:extra dir /deep/er/owned
COPY --chown=root:root one.txt /root-owned
COPY strange /strange
ARG WHO=app
COPY --chown=$WHO:${WHO:+web} one.txt /by-variable
ADD --chown=6:7 dir /added
USER app
COPY one.txt /not-the-users
WORKDIR /home/app/made
COPY one.txt .

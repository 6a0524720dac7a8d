# Owners of OpenShift and above: from RUN, COPY, ADD, USER and WORKDIR
FROM base
RUN touch /f && chown 1000680000:1000680001 /f
RUN touch /g && chown 2147483648:2294967294 /g && stat -c %u:%g /g > /said
RUN mkdir /d && touch /d/x && chown -R 4294967294 /d
COPY --chown=1000680000:0 dir /copied/
ADD --chown=1000999999 one.txt /added/below/
COPY --chown=134217728:134217729 one.txt /first-above
USER 1000680000
WORKDIR /work
RUN chmod 1777 /tmp 2> /dev/null; id -u > /tmp/id; stat -c %u:%g /work >> /tmp/id
USER 1000680000:1000690000
WORKDIR below
RUN id -g > /tmp/group

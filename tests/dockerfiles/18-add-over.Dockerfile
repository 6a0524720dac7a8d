# ADD: an archive over what is there
FROM base
RUN mkdir -p /m/null /m/absolute/x && ln -s /data /unmentioned && echo old > /m/setuid && chmod 700 /m
ADD members.tar /

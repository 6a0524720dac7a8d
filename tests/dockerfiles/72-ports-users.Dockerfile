# EXPOSE, USER, STOPSIGNAL, VOLUME and WORKDIR with variables
FROM base
ENV P=8080 U=app S=SIGQUIT V=/vol
EXPOSE $P/tcp ${P}
USER $U:web
STOPSIGNAL $S
VOLUME $V ${V}2
VOLUME ["$V-3"]
WORKDIR $V/w
HEALTHCHECK --retries=3 CMD echo $P
ENTRYPOINT ["echo", "$P"]
CMD ["${U}"]
LABEL p=$P

# Variables where they are expanded, and where not
FROM base
ARG P=80 U=app D=/d F=one.txt S=TERM
EXPOSE $P ${P}1/udp "8${P}"
LABEL $U=$P "k$P"=v
USER $U
WORKDIR $D/$U
USER 0
COPY --chown=$U:$U2 ${F%.txt}.txt $D/${F}
ADD --chown=${U} $F two.txt ./
VOLUME $D/v [$D]
STOPSIGNAL SIG$S
CMD echo $P
ENTRYPOINT ["$P"]
HEALTHCHECK CMD echo $P

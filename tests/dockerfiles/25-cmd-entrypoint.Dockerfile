# CMD and ENTRYPOINT: exec form, and an ENTRYPOINT takes the base's CMD away
FROM base AS one
ENTRYPOINT ["/bin/cat"]
FROM one AS two
CMD ["/etc/passwd"]
FROM two
ENTRYPOINT ["/bin/ls", "-l"]

# CMD and ENTRYPOINT: taken away
FROM base AS one
ENTRYPOINT ["/bin/cat"]
CMD ["x"]
FROM one
ENTRYPOINT []
CMD []

# ENTRYPOINT and CMD: which one takes the base's away
FROM base AS one
ENTRYPOINT ["e"]
FROM base AS two
CMD ["mine"]
ENTRYPOINT e $X
FROM two AS three
ENTRYPOINT ["f"]
FROM three
COPY --from=one / /one
CMD

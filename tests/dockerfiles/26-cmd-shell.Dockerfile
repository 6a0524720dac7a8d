# CMD and ENTRYPOINT: shell form, empty ones, later ones
FROM base
CMD echo first
CMD echo $BASE && true
ENTRYPOINT exec cat
CMD ["a", "b"]

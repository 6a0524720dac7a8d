# a file that ends early
# both refuse: bytes remaining
FROM base
ADD http://@server/short /x

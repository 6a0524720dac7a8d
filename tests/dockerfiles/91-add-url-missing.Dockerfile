# a URL at which nothing is
# both refuse: cannot fetch http://
FROM base
ADD http://@server/nothing /x

# a URL that leads to itself
# both refuse: Maximum (10) redirects followed
FROM base
ADD http://@server/loop /x

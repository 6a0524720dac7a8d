# a URL that leads to a file of the machine
# both refuse: Protocol "file"
FROM base
ADD http://@server/out /x

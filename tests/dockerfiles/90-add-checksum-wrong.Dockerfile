# ADD --checksum of another file
# both refuse: line 4: ADD: http://
FROM base
ADD --checksum=sha256:0000000000000000000000000000000000000000000000000000000000000000 http://@server/dated /x

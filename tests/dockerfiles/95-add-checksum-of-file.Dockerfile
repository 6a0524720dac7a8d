# ADD --checksum of a file of the context
# both refuse: --checksum is for one URL
FROM base
ADD --checksum=sha256:0000000000000000000000000000000000000000000000000000000000000000 one.txt /x

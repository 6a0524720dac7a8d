# ADD: setuid, capabilities, hard links, pipes, devices, long names and other owners of an archive
FROM base
ADD members.tar /

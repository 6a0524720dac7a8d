# ADD of an archive to where a file is
# both refuse: /etc/passwd
FROM base
ADD plain.tar /etc/passwd

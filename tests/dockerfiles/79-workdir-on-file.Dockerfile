# WORKDIR where a file is
# both refuse: /etc/passwd
FROM base
WORKDIR /etc/passwd

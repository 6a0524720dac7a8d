# Variables: a replacement without its second slash
# both refuse: ${
FROM base
ENV V=/usr/lib
ENV K=${V//lib}

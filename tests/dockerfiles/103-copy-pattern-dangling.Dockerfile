# COPY: a link that a pattern names has to lead somewhere
# both refuse: the link gone leads to /nowhere
FROM base
COPY gon* /x/

# Variables: one that has to be there
# both refuse: GIVE
FROM base
ENV A="${GIVE:?has to be given}"

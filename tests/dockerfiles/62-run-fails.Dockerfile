# A RUN that fails
# both refuse: 3
FROM base
RUN exit 3

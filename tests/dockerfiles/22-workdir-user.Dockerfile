# WORKDIR after USER: whose the folder is
FROM base
USER app
WORKDIR /one/two
USER 77:88
WORKDIR /three
WORKDIR four
USER root
WORKDIR /five

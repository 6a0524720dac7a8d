# Dockerfile.dockerignore is stronger than .dockerignore
FROM base
COPY . /c

# .dockerignore: ** and exceptions from it, classes, question marks
FROM base
COPY . /c
COPY x /x/

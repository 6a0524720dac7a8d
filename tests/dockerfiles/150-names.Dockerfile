# Names of files: long, of other alphabets, with signs
FROM base
COPY signs /signs/
COPY signs/*ü* /umlaut/
COPY ["signs/a  b", "/spaces"]
RUN cd /signs && ls > /names

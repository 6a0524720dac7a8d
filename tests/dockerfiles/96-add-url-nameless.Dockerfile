# a URL without a file name, into a folder
# ours refuse: names no file, and /f/ is a folder
FROM base
ADD http://@server/ /f/

# ADD of a URL
# ours refuse: is a URL
FROM base
ADD http://127.0.0.1:9/x /x

# A folder becomes a file, a link, and the other way round, in steps of their own
FROM base
RUN mkdir -p /f/a /f/b /f/c && touch /f/a/x /f/b/y /f/file /f/other && ln -s /data /f/link && ln -s /data /f/link2
RUN rm -r /f/a && echo file > /f/a
RUN rm -r /f/b && ln -s /etc /f/b
RUN rm /f/file && mkdir /f/file && touch /f/file/in
RUN rm /f/link && mkdir /f/link && touch /f/link/in
RUN rm /f/link2 && touch /f/link2
RUN rm -r /f/c && mkdir /f/c && touch /f/c/new
RUN mv /f/other /f/moved && mv /f/c /f/d

# RUN: folders replaced by files and links, and the other way round
FROM base
RUN rm -r /data && echo file > /data
RUN rm /data && mkdir /data && echo new > /data/new
RUN rm /library && mkdir /library && touch /library/x
RUN mv /library /moved && ln -s /moved /library
RUN rm -r /var && ln -s /data /var

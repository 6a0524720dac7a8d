# setuid, sticky, pipes, dangling links, sparse files, odd names
FROM base
RUN mkdir -m 1770 /s && cp /bin/id /s/id && chmod 4755 /s/id && chmod 2755 /s && ln /s/id /s/again && mkfifo -m 620 /s/pipe && ln -s nowhere /s/dangling
RUN truncate -s 1M /s/holes && echo end >> /s/holes && touch "/s/$(printf 'new\nline')" "/s/ space " /s/ünïcode '/s/back\slash'
RUN chown -R 3:4 /s && chown -h 5:6 /s/dangling
RUN chown 70000:80000 /s/id && touch -d @1234567890 /s/old && touch -d @-5 /s/before
RUN chmod 0711 /root && chmod g+s /tmp

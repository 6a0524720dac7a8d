# CMD: what is almost JSON is a command for the shell
FROM base
CMD ['/bin/cat', 'x']
ENTRYPOINT [ "a" "b" ]

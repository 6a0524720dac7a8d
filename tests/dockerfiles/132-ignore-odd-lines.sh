#!/bin/sh
echo x > '#hash'; echo x > ' space'; echo x > a.b
printf '\357\273\277one.txt\r\n# comment\n #hash\n\n   \n./dir/./sub\n./two.txt/\n!\\!x\n/\n.\ndir/../empty\n../linked\n**/deep\n' > .dockerignore
find . -exec touch -h -d @1500000000 {} +

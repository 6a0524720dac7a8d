# Instructions and keywords in other cases, no instruction before FROM but ARG
arg B=base
from $B as First
run echo 1 > /1
From first aS second
Copy --from=FIRST /1 /2
Workdir /x
env a=b
expose 1

# Spaces and tabs before, between and after; comments anywhere
  # not a directive

   FROM   base   AS   x  
	ENV	A=a  B=b 
  # comment
  RUN echo $A$B > /ab \
# in the middle
   \
  && echo more >> /ab
from x
  copy   one.txt   /one  
#last
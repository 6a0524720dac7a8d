#!/bin/sh
printf '\357\273\277' > bom; cat bom Dockerfile > d; mv d Dockerfile; rm bom

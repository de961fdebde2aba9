// Only marks the root: the versions are in the .mod files beside this one.
module berth.dev/local/python

go 1.26

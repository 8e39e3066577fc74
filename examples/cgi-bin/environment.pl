#!/usr/bin/perl
# Every language will do: this one runs as a process. What it finds is the request, and little else.
use strict;
use warnings;

print "Content-Type: text/plain; charset=utf-8\n\n";
print "$_=$ENV{$_}\n" for sort keys %ENV;

# What Perl computes here, in a guest and natively: the same lines.
use strict;
use warnings;

my $state = 12345;
sub chance { $state = ($state * 1103515245 + 12345) % 2147483648; return $state >> 8 }
sub sum { my $sum = 0; $sum = ($sum * 31 + ord) % 4294967291 for split //, shift; return $sum }

my @words = map { join '', map { chr(97 + chance() % 26) } 1 .. 3 + chance() % 6 } 1 .. 4000;
my %count;
$count{$_}++ for map { substr $_, 0, 2 } @words;
print "perl hash ", sum(join ' ', map { "$_=$count{$_}" } sort keys %count), "\n";
print "perl sort ", sum(join ' ', sort { length $a <=> length $b or $a cmp $b } @words), "\n";
my $text = join ' ', @words;
my $hits = () = $text =~ /\b(\w)\w*\1\b/g;
(my $other = $text) =~ s/([aeiou])([^aeiou ])/$2$1/g;
(my $letters = $text) =~ tr/a-mn-z/n-za-m/;
print "perl regex $hits ", sum($other), ' ', sum($letters), "\n";
print "perl float ", join(' ', map { sprintf '%.14g', sin($_) * exp(-$_ / 9) + sqrt($_) } 1 .. 60), "\n";
print "perl pack ", sum(unpack 'H*', pack 'w*', map { chance() } 1 .. 3000), "\n";
print "perl integer ", join(' ', map { (chance() * 65537 ^ $_ << 20) % 1000003 } 1 .. 60), "\n";

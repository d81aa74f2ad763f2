"""What defences do to models whose truth is known: ours, decided blind, beside others, on the same images."""

% Domain   : equality
% Status   : Theorem
fof(one, axiom, a = b).
fof(two, axiom, c = b).
fof(three, axiom, c = d).
fof(goal, conjecture, f(a) = f(d)).

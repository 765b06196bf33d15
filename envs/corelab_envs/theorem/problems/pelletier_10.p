% Domain   : Pelletier's problem 10
% Status   : Theorem
fof(a1, axiom, q => r).
fof(a2, axiom, r => (p & q)).
fof(a3, axiom, p => (q | r)).
fof(goal, conjecture, p <=> q).

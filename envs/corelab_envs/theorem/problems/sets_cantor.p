% Domain   : set theory
% Status   : Theorem
fof(onto, axiom, ! [A] : (onto(A) <=> ! [B] : ? [X] : ! [Y] : (in(Y, B) <=> image(X, Y)))).
fof(diagonal, axiom, ? [D] : ! [Y] : (in(Y, D) <=> ~ image(Y, Y))).
fof(goal, conjecture, ! [A] : ~ onto(A)).

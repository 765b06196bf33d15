% Domain   : equality: what is undone by f on both sides is one to one
% Status   : Theorem
fof(inverse, axiom, ! [X] : g(f(X)) = X).
fof(goal, conjecture, ! [X, Y] : (f(X) = f(Y) => X = Y)).

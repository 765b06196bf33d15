% Domain   : equality: f g has one fixed point if g f has
% Status   : Theorem
fof(goal, conjecture, (? [X] : (X = f(g(X)) & ! [Y] : (Y = f(g(Y)) => X = Y))) => ? [X] : X = g(f(X))).

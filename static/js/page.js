// Pages without live content.
import "./shell.js";

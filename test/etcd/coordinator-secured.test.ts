/** The same with an etcd that wants TLS, a certificate and a user. */
import './coordinator-cases.js';
import { asked } from '../support/etcd.js';

asked.isSecured = true;

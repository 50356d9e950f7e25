/** The coordinator and an etcd that asks nobody who they are. */
import './coordinator-cases.js';
import { asked } from '../support/etcd.js';

asked.isSecured = false;

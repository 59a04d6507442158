// Every function exported here can be started by its name: the runbooks, and the lock that they hold.
export { adopt } from './adopt/workflow.js';
export { backup } from './backup/workflow.js';
export { repair } from './repair/workflow.js';
export { healthCheck as 'health-check' } from './health-check/workflow.js';
export { deploy } from './deploy/workflow.js';
export { restartService as 'restart-service' } from './restart-service/workflow.js';
export { rollback } from './rollback/workflow.js';
export { lock } from './lock/workflow.js';
export { provisionHost as 'provision-host' } from './provision-host/workflow.js';
